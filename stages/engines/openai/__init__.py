"""Engine `openai`: any server with the chat or completions API."""
