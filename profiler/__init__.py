"""How one artifact is measured on one device: registry, transports, agent, statistics. Knows no layout."""
