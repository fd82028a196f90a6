"""Starts a machine and talks to it as QEMU's libqtest does: sockets that listen, two of them, -accel qtest."""
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile

folder = tempfile.mkdtemp()
os.chmod(folder, 0o755)
servers = {}
for name in ("qtest", "qmp"):
    servers[name] = socket.socket(socket.AF_UNIX)
    servers[name].bind(os.path.join(folder, name))
    servers[name].listen(1)
    servers[name].settimeout(30)
machine = subprocess.Popen(
    sys.argv[1:]
    + ["-qtest", f"unix:{folder}/qtest", "-qtest-log", "/dev/null"]
    + ["-chardev", f"socket,path={folder}/qmp,id=char0", "-mon", "chardev=char0,mode=control"]
    + ["-display", "none", "-audio", "none", "-monitor", "none", "-serial", "none", "-S"]
    + ["-machine", "virt,acpi=off,gic-version=3", "-m", "256", "-cpu", "max", "-net", "none", "-no-shutdown"]
    + ["-device", "arm-smmuv3,primary-bus=pcie.0,id=smmu0", "-device", "edu", "-accel", "qtest"],
    stdout=subprocess.DEVNULL,
)
qtest = servers["qtest"].accept()[0].makefile("rwb", buffering=0)
qmp = servers["qmp"].accept()[0].makefile("rwb", buffering=0)
assert b'"QMP"' in qmp.readline(), "no greeting"
qmp.write(b'{"execute": "qmp_capabilities"}\n')
assert b'"return"' in qmp.readline(), "no capabilities"
interrupts = []


def ask(line):
    """One command; the words of its answer after OK. Interrupts come before it."""
    qtest.write(line.encode() + b"\n")
    while True:
        words = qtest.readline().decode().split()
        if words[0] != "IRQ":
            assert words[0] == "OK", (line, words)
            return words[1:]
        interrupts.append((words[1], int(words[2])))


assert ask("endianness") == ["little"]
assert ask("irq_intercept_in /machine/unattached/device[1]") == []
assert int(ask("readl 0xc000000")[0], 0) & 3 == 2, "stage 1 is what an SMMU has by default"
data = bytes(range(256)) * 5
ask(f"write 0x48000000 0x{len(data):x} 0x{data.hex()}")
assert ask(f"read 0x48000000 0x{len(data):x}") == ["0x" + data.hex()]
ask("memset 0x48000000 0x500 0x55")
assert ask("readq 0x480004f8") == ["0x" + "55" * 8]
ask("writel 0x4010008010 0x10000000")
ask("writew 0x4010008004 0x6")
assert ask("readl 0x10000000") == ["0x00000000010000ed"], "edu's identification"
ask("writel 0x10000060 0x1")
ask("writel 0x10000064 0x1")
assert interrupts == [("raise", 4), ("lower", 4)], interrupts
assert int(ask("clock_step 1000")[0]) == 1000
assert int(ask("clock_set 5000")[0]) == 5000
qtest.write(b"frobnicate 1\n")
assert re.match(rb"FAIL Unknown command 'frobnicate'\n", qtest.readline())
qtest.close()
qmp.close()
machine.send_signal(signal.SIGTERM)
assert machine.wait(30) == 0, machine.returncode
print("all is well")
