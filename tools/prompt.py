"""What makes panels answer at once: the connection between page and kernel of `make lab` and `make play`."""

from jupyter_server.services.kernels.connection.channels import ZMQChannelsWebsocketConnection
from traitlets import default


class PromptConnection(ZMQChannelsWebsocketConnection):
    """Small messages leave at once (TCP no-delay): otherwise each key press waits for 40 ms.

    A page that connects while its kernel is being restarted asks the old one, which cannot answer, and
    waits for a minute with all cells at [*]. Here it gives up after some seconds and connects again.
    """

    @default("kernel_info_timeout")
    def _give_up_after(self):
        return 8.0

    def connect(self):
        self.websocket_handler.set_nodelay(True)
        return super().connect()
