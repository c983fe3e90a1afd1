"""The node's own program: install, resync, agent."""
