from paretoscope.cli.main import app

app(prog_name="python -m paretoscope")
