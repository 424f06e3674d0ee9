"""The schemas that publishers, editors and tests read, and the script that writes them."""
