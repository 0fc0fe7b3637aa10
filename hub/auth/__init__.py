"""Who is calling, and what that principal may do. Everything here answers from memory, synchronously."""
