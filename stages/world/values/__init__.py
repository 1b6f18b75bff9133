"""The bilingual value set: situations in five dimensions, each of two cases and of two things to say."""
