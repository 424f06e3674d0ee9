"""The four functions, their queue and their stores in one process on one machine."""
