"""`causalmix doctor`: what a site lacks, found before five hundred jobs find it."""
