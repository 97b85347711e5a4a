"""How fast this is beside other PPOs on the same work; not part of the package."""
