"""An almanac of drawn towns: what nobody remembers and a search finds."""
