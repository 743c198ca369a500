"""A gRPC channel to a server, and what its errors mean: for the environment client and for `seedbed doctor`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import cast

import grpc
import grpc.aio

from seedbed.common.address import Address
from seedbed.common.credentials import ClientCredentials
from seedbed.common.errors import ERROR_NAME_KEY, SeedbedError, error_from_status

ChannelOptions = Sequence[tuple[str, int | str]]


def open_channel(address: Address, credentials: ClientCredentials, options: ChannelOptions = ()) -> grpc.aio.Channel:
    """Opens a channel on the running event loop; nothing is sent yet.

    Args:
        address: of the server.
        credentials: the files they name are read now, and never again by this channel.
        options: gRPC's.

    Raises:
        AuthError: a file is missing, broken or expired.
    """
    options = (*options, ("grpc.enable_http_proxy", 0))  # a variable meant for browsers must not reroute us
    tls = credentials.read_tls()
    if tls is None:
        return grpc.aio.insecure_channel(str(address), options=options)
    if credentials.tls_server_name:
        options = (*options, ("grpc.ssl_target_name_override", credentials.tls_server_name))
    secrets = grpc.ssl_channel_credentials(tls.roots, tls.key, tls.certificate)
    return grpc.aio.secure_channel(str(address), secrets, options=options)


def error_from_rpc(error: grpc.aio.AioRpcError) -> SeedbedError:
    """The class that the server named in the trailing metadata, or else the one that fits the status."""
    trailing = cast("Iterable[tuple[str, str | bytes]]", error.trailing_metadata() or ())
    name = next((str(value) for key, value in trailing if key == ERROR_NAME_KEY), None)
    return error_from_status(error.code().name, error.details() or "", name)
