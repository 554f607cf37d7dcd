"""Configuration of the servers behind `make lab` and `make play`, given to them with --config."""

from jupyter_server.services.kernels.connection.channels import ZMQChannelsWebsocketConnection


class PromptConnection(ZMQChannelsWebsocketConnection):
    """Small messages leave at once (TCP no-delay): otherwise each key press in a panel waits for 40 ms."""

    def connect(self):
        self.websocket_handler.set_nodelay(True)
        return super().connect()


c = get_config()  # noqa: F821
c.ServerApp.kernel_websocket_connection_class = PromptConnection
c.Voila.kernel_websocket_connection_class = PromptConnection
