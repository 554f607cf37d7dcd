"""What makes panels answer at once: the connection between page and kernel of `make lab` and `make play`."""

from jupyter_server.services.kernels.connection.channels import ZMQChannelsWebsocketConnection


class PromptConnection(ZMQChannelsWebsocketConnection):
    """Small messages leave at once (TCP no-delay): otherwise each key press waits for 40 ms."""

    def connect(self):
        self.websocket_handler.set_nodelay(True)
        return super().connect()
