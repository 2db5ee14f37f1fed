"""What is said: exponents, update rules, claims, regions. Never imports what measures."""
