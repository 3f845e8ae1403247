"""Files by HTTPS ranges from a real TLS server, which may behave badly."""

import datetime
import hashlib
import ssl
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from kepler_edge.errors import Refused, Unavailable
from kepler_edge.fetch import HttpsFetch, pinned
from kepler_edge.release_doc import ReleaseFile

DATA = bytes(range(256)) * 4000


def authority(folder, name):
    """A CA with a certificate for 127.0.0.1: paths of CA, certificate and key."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = folder / f"{name}.pem"
    pem.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    key_pem = folder / f"{name}.key"
    key_pem.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    return pem, key_pem


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        server = self.server
        server.asked.append((self.path, self.headers["Range"]))
        harm = server.harm.pop(0) if server.harm else ""
        first, last = map(int, self.headers["Range"].removeprefix("bytes=").split("-"))
        body = DATA[first : last + 1]
        if harm.isdigit():
            self.send_response(int(harm))
            self.send_header("Location", "https://127.0.0.1/elsewhere")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        if harm == "whole":
            self.send_response(200)
            self.send_header("Content-Length", str(len(DATA)))
            self.end_headers()
            self.wfile.write(DATA)
            return
        start = first + 1 if harm == "shifted" else first
        self.send_response(206)
        self.send_header("Content-Range", f"bytes {start}-{last}/{len(DATA)}")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if harm == "cut":
            self.wfile.write(body[: len(body) // 2])
            self.close_connection = True
        elif harm == "trickle":
            for at in range(0, len(body), 100):
                self.wfile.write(body[at : at + 100])
                time.sleep(0.05)
        elif harm != "silent":
            self.wfile.write(body)
        else:
            time.sleep(1.5)

    def log_message(self, *given):
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request, client_address):
        pass


@pytest.fixture
def served(tmp_path):
    ca, key = authority(tmp_path, "plant")
    server = Server(("127.0.0.1", 0), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(ca, key)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    server.asked, server.harm = [], []
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    url = f"https://127.0.0.1:{server.server_port}/files/r1"
    file = ReleaseFile("r1", url, "model.onnx", hashlib.sha256(DATA).hexdigest(), len(DATA))
    fetch = HttpsFetch(lambda: pinned(ca), timeout_s=1.0, piece_bytes=300_000)
    yield server, file, fetch
    fetch.close()
    server.shutdown()
    server.server_close()
    thread.join()


def whole(fetch, file, tries=50):
    out = b""
    for _ in range(tries):
        if len(out) >= file.size:
            return out
        try:
            out += fetch(file, len(out))
        except Unavailable:
            continue
    raise AssertionError("it does not come")


def test_ranges_on_one_connection(served):
    server, file, fetch = served
    assert whole(fetch, file) == DATA
    assert [path for path, _ in server.asked] == ["/files/r1/model.onnx"] * 4
    assert server.asked[1][1] == "bytes=300000-599999"
    assert server.asked[-1][1] == f"bytes=900000-{len(DATA) - 1}"


@pytest.mark.parametrize("harm", ["cut", "silent", "trickle", "whole", "500", "503", "429", "403"])
def test_trouble_is_worth_trying_again_and_nothing_is_fetched_twice(served, harm):
    server, file, fetch = served
    server.harm = ["", harm, "", harm]
    assert whole(fetch, file) == DATA


def test_a_whole_answer_at_the_start_gives_its_beginning(served):
    server, file, fetch = served
    server.harm = ["whole"]
    assert fetch(file, 0) == DATA[:300_000]
    assert fetch(file, 300_000) == DATA[300_000:600_000]


@pytest.mark.parametrize("harm", ["404", "410", "302", "shifted"])
def test_what_no_trying_mends_is_refused_and_redirects_are_not_followed(served, harm):
    server, file, fetch = served
    server.harm = [harm]
    with pytest.raises(Refused):
        fetch(file, 0)
    assert len(server.asked) == 1
    assert fetch(file, 0) == DATA[:300_000]


def test_a_server_of_another_authority_is_not_believed(served, tmp_path):
    server, file, _ = served
    other, _ = authority(tmp_path, "stranger")
    fetch = HttpsFetch(lambda: pinned(other), timeout_s=1.0)
    with pytest.raises(Unavailable, match="CERTIFICATE_VERIFY_FAILED"):
        fetch(file, 0)
    assert not server.asked


def test_nobody_listens(served):
    _, file, fetch = served
    away = ReleaseFile("r1", "https://127.0.0.1:1/x", "model.onnx", file.sha256, file.size)
    with pytest.raises(Unavailable, match="cannot be fetched"):
        fetch(away, 0)
