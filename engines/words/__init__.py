"""Words: a bundle's vocabulary, the tokeniser of its text encoder, and frame features made from words."""
