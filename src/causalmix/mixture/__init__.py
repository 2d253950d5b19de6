"""Mixtures: the simplex and its limits, designs that draw a mixture, counts of documents."""
