"""The audit of engines that run models: each in an environment of its own, asked through the protocol."""
