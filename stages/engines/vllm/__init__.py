"""Engine `vllm`: vLLM in this process, its weights reloaded warm."""
