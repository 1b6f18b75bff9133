"""Whether an answer is the right one: extraction, normal forms, exact and symbolic comparison."""
