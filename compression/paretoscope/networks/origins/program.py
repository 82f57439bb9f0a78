"""Programs of torch.export, `.pt2`."""

from paretoscope.networks.origins.origin import Opened, Options, existing, refuse_options, suffixed


class Program:
    name = "torch-export"
    title = "PyTorch program"
    summary = "A file of torch.export: read as data, nothing in it is executed."
    reference = "PyTorch documentation, torch.export"
    form = "FILE.pt2"
    place = 10

    def takes(self, text: str) -> bool:
        return suffixed(text, ".pt2")

    def open(self, text: str, options: Options) -> Opened:
        from paretoscope.graph.doors import read_program

        refuse_options(options, weights="a program has its weights", inputs="a program has its shapes")
        path = existing(text)
        # What PyTorch would make of it is not run beside it: its loader executes what a file says.
        return Opened(read_program(path), "", None)


ORIGINS = (Program(),)
