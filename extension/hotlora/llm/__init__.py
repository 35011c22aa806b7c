"""What a text example is: formats, chat templates, packing, language loss, peft folders, judging. Imports engine, never sd."""
