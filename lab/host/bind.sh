#!/bin/sh
# bind.sh ADDRESS...: gives PCI functions to vfio-pci; prints each with its character device.
for address in "$@"; do
  function=/sys/bus/pci/devices/$address
  [ -e "$function" ] || { echo "bind: there is no function $address" >&2; exit 1; }
  if [ "$(basename "$(readlink "$function/driver")")" != vfio-pci ]; then
    [ ! -e "$function/driver" ] || echo "$address" >"$function/driver/unbind"
    echo vfio-pci >"$function/driver_override"
    echo "$address" >/sys/bus/pci/drivers_probe
  fi
  device=$(ls "$function/vfio-dev" 2>/dev/null) || { echo "bind: vfio-pci does not take $address" >&2; exit 1; }
  echo "$address /dev/vfio/devices/$device"
done
