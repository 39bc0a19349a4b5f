"""Files: uploaded straight to the object store, verified, and served from it."""
