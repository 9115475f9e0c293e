"""What hubd and its clients agree on: handles, the cache on disk, leases, errors. Standard library only."""
