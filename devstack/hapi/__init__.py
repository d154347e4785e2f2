"""HAPI FHIR JPA, the reference server for Java: resolved by Maven and compiled once, then run from the cache.

Nobody here wrote it: it shows what a FHIR server does that is not our own. In memory, R4, at a port of this machine.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from devstack.cache import cache, installed, need, run
from devstack.child import child

_HERE = Path(__file__).resolve().parent
_POM = _HERE / "pom.xml"
_SOURCE = _HERE / "HapiServer.java"
_PROGRAMS = ("java", "javac", "mvn")
_RESOLVE = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:build-classpath"


def version() -> str:
    """Return the version that pom.xml pins."""
    match = re.search(r"<hapi\.version>([^<]+)<", _POM.read_text(encoding="utf-8"))
    assert match is not None
    return match[1]


def install() -> Path:
    """Resolve and compile into the cache, once; returns the folder. Raises Terminal: `missing-program`, `install`."""
    need("HAPI", *_PROGRAMS)
    jars = cache("hapi") / "maven"

    def make(folder: Path) -> None:
        listed = folder / "classpath"
        run(["mvn", "-B", "-q", "-f", str(_POM), f"-Dmaven.repo.local={jars}", _RESOLVE, f"-Dmdep.outputFile={listed}"])
        listed_jars = listed.read_text(encoding="utf-8").strip()
        classes = folder / "classes"
        run(["javac", "-proc:none", "--release", "17", "-d", str(classes), "-cp", listed_jars, str(_SOURCE)])

    return installed("hapi", (_POM, _SOURCE), make)


@contextmanager
def running(*, port: int = 0) -> Iterator[str]:
    """Run the server until the block ends, installed first if need be; gives its FHIR base.

    About 12 seconds and a gigabyte of memory. Raises Terminal: `missing-program`, `install`, `start`.
    """
    folder = install()
    jars = (folder / "classpath").read_text(encoding="utf-8").strip()
    options = ["-Xmx2g", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]
    options += [f"-Dhapi.port={port}", f"-Dlogback.configurationFile={_HERE / 'logback.xml'}"]
    with child(["java", *options, "-cp", f"{folder / 'classes'}:{jars}", "HapiServer"], within=300) as ready:
        yield str(ready["fhir"])
