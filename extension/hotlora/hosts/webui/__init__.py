"""What AUTOMATIC1111's WebUI and programs made from it share: the queue, LoRA files, txt2img. Touches no model's classes."""
