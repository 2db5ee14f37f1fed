"""What is run: a script and a config each, on the skeleton in `lab`."""
