import { expect, test } from "vitest";
import { createSimulatedHost, describeHost } from "../../src/host/simulated/index.js";
import { Log } from "../../src/support/index.js";
import { IommufdContext } from "../../src/vfio/index.js";
import { hostDescription } from "../smmuv3/accel/rig.js";

test("an iommufd that was given is used by all users and stays open after the last; one of its own is opened anew", () => {
  const host = createSimulatedHost(describeHost(hostDescription()));
  const outside = host.openIommufd();
  const given = new IommufdContext("given", host, new Log(), { fd: outside.fd });
  for (let turn = 0; turn < 2; turn++) {
    expect([given.connect().fd, given.connect().fd]).toEqual([outside.fd, outside.fd]);
    given.disconnect();
    given.disconnect();
    expect(outside.ioasAlloc()).toBe(turn + 1);
  }
  const own = new IommufdContext("own", host, new Log());
  const { fd } = own.connect();
  own.disconnect();
  expect(own.connect().fd).not.toBe(fd);
  own.disconnect();
  outside.close();
  expect(host.liveObjects()).toEqual([]);
  host.close();
});
