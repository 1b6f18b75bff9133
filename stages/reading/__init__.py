"""Files in the formats people have, as samples: what `prepare` and `import` read them with."""
