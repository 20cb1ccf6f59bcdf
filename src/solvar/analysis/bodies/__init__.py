"""Which parts of an atomic model move how far along a component, as rigid bodies."""
