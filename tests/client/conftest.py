import pytest

from kdas_tf.serving import server_config
from kdas_tf.serving.embedder import Embedder
from tests.serving import networks


@pytest.fixture(scope="package")
def network():
    return networks.student()


@pytest.fixture(scope="package")
def ports(network, tmp_path_factory):
    """An export of two models of different widths, and the ports of its servers."""
    from tests.serving import servers

    root = tmp_path_factory.mktemp("export")
    Embedder(network, image_size=networks.SIZE).save(root / "kdas_reid" / "3")
    narrow = networks.student(channels=4, cells=1, reductions=())
    Embedder(narrow, image_size=networks.SIZE).save(root / "narrow" / "3")
    server_config.write(root, ["kdas_reid", "narrow"], base_path="/models", batch_sizes=(1, 2, 4))
    served = servers.Served(root)
    with servers.serving_grpc(served) as grpc_port, servers.serving_rest(served) as rest_port:
        yield served, {"grpc": grpc_port, "http": rest_port}


@pytest.fixture
def served(ports):
    ports[0].calm()
    return ports[0]
