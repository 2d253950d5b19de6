"""Trust regions: how far from the reference a policy may go; one file a region."""
