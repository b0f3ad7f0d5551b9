"""The words of the domain as values: ids, states, sessions, resources. Pure; no input or output."""
