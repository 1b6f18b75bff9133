"""Starting the processes of a training run, what they are told, and how they end."""
