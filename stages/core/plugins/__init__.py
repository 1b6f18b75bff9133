"""Plugins: which kinds there are, how one is named, where its code comes from, and what identifies it.

`stages.core.registry` is the door that everybody else uses.

    kinds       the families of plugins, the folder and the entry-point group of each
    builtin     plugins in files of this repository
    references  `path/to/file.py:NAME` and `package.module:NAME`
    installed   entry points of installed packages
    outside     loading what is not ours, with errors that name the person's file and line
    trees       the digest of one source file, and what it imports
    source      which files a plugin is made of, and their digest
    golden      the digests that this repository's own plugins have at their versions
    unchanged   whether files are what they were, without reading them
"""
