"""What `jaxlm runs` does with the records: select, list, show, compare."""
