"""vLLM as a child process with pushed and checked weights, and servers that speak token ids."""
