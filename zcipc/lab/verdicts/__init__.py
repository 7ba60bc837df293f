"""What the measurements say about the paper's claims and about its Table 1."""
