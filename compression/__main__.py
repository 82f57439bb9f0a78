from compression.cli import app

app(prog_name="python -m compression")
