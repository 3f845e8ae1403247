"""Limits that client and server must agree on.

One table, because a client that pings faster than its server allows is sent away (GOAWAY too_many_pings).
"""

from __future__ import annotations

MESSAGE_BYTES_MAX = 4 * 1024 * 1024
RESPONSE_BYTES_MAX = 64 * 1024 * 1024
"""Answers may be larger than slices: a class probability each for many classes."""
METADATA_BYTES_MAX = 16_384

KEEPALIVE_TIME_MS = 30_000
KEEPALIVE_TIMEOUT_MS = 10_000
SERVER_MIN_PING_INTERVAL_MS = 10_000
SERVER_MAX_PING_STRIKES = 2

SLICE_BYTES = 1_500_000
"""What a slice of CSV records is filled to; whole records only, so a slice may be a record longer."""

CONNECT_TIMEOUT_S = 10.0
UNARY_TIMEOUT_S = 60.0

CLIENT_OPTIONS: tuple[tuple[str, int], ...] = (
    ("grpc.max_receive_message_length", RESPONSE_BYTES_MAX),
    ("grpc.max_send_message_length", MESSAGE_BYTES_MAX),
    ("grpc.keepalive_time_ms", KEEPALIVE_TIME_MS),
    ("grpc.keepalive_timeout_ms", KEEPALIVE_TIMEOUT_MS),
    ("grpc.keepalive_permit_without_calls", 0),
    ("grpc.max_metadata_size", METADATA_BYTES_MAX),
)
"""For the client's channel."""

SERVER_OPTIONS: tuple[tuple[str, int], ...] = (
    ("grpc.max_receive_message_length", MESSAGE_BYTES_MAX),
    ("grpc.max_send_message_length", RESPONSE_BYTES_MAX),
    ("grpc.keepalive_time_ms", KEEPALIVE_TIME_MS),
    ("grpc.keepalive_timeout_ms", KEEPALIVE_TIMEOUT_MS),
    ("grpc.http2.min_ping_interval_without_data_ms", SERVER_MIN_PING_INTERVAL_MS),
    ("grpc.http2.max_ping_strikes", SERVER_MAX_PING_STRIKES),
    ("grpc.max_concurrent_streams", 2_000),
    # A slice in one frame: the search head's client is Python, and each frame of 16 KiB costs it as much as a call.
    ("grpc.http2.max_frame_size", MESSAGE_BYTES_MAX),
    ("grpc.http2.lookahead_bytes", MESSAGE_BYTES_MAX),
    ("grpc.so_reuseport", 0),
    ("grpc.max_metadata_size", METADATA_BYTES_MAX),
)
"""For the server. A connection has no age: searches and trainings last as long as they last, and some HTTP/2
libraries close every stream with the connection that is asked to go."""
