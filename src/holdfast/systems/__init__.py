"""The five businesses. They never import each other; they meet in the kernel and the account id."""
