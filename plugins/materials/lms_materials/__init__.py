"""What a course holds: pages, documents and links, and the search over them."""
