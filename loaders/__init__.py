"""People's data as batches of events: one module a set, all yielding the same `loaders.dataset.Dataset`."""
