"""A chat over Socket.IO on several nodes: who is online is known on each of them, also after a node has died."""
