"""The proof: reads a tape from its beginning to its end and says what is there, what is not, and what is twice."""
