"""What `make bench` times: `candidates` has the engine and plain implementations beside it."""
