/*
 * Prints the numbers of Linux's user-space interface that src/kvm/uapi.ts states, one "name value" a line. What
 * asm/kvm.h is decides which of them: uapi-layout.txt is the output with x86's, uapi-layout-arm64.txt that with
 * arm64's (linux/kvm.h of any Linux since 5.5). Both architectures have the same sizes of types, so that one compiler
 * does for both where it finds the other's headers.
 */
#include <stddef.h>
#include <stdio.h>
#include <linux/kvm.h>

/* Of Linux 6.17. */
#ifndef KVM_CAP_ARM_CACHEABLE_PFNMAP_SUPPORTED
#define KVM_CAP_ARM_CACHEABLE_PFNMAP_SUPPORTED 243
#endif

#define VALUE(name, value) printf("%s %llu\n", name, (unsigned long long)(value))
#define AT(name, type, member) VALUE(name, offsetof(struct type, member))

int main(void)
{
	VALUE("KVM.GET_API_VERSION", KVM_GET_API_VERSION);
	VALUE("KVM.CREATE_VM", KVM_CREATE_VM);
	VALUE("KVM.CHECK_EXTENSION", KVM_CHECK_EXTENSION);
	VALUE("KVM.GET_VCPU_MMAP_SIZE", KVM_GET_VCPU_MMAP_SIZE);
	VALUE("KVM.CREATE_VCPU", KVM_CREATE_VCPU);
	VALUE("KVM.SET_USER_MEMORY_REGION", KVM_SET_USER_MEMORY_REGION);
	VALUE("KVM.REGISTER_COALESCED_MMIO", KVM_REGISTER_COALESCED_MMIO);
	VALUE("KVM.SET_GSI_ROUTING", KVM_SET_GSI_ROUTING);
	VALUE("KVM.IRQFD", KVM_IRQFD);
	VALUE("KVM.CREATE_DEVICE", KVM_CREATE_DEVICE);
	VALUE("KVM.SET_DEVICE_ATTR", KVM_SET_DEVICE_ATTR);
	VALUE("KVM.RUN", KVM_RUN);
	VALUE("KVM.ENABLE_CAP", KVM_ENABLE_CAP);
	VALUE("KVM.SIGNAL_MSI", KVM_SIGNAL_MSI);
	VALUE("KVM_API_VERSION", KVM_API_VERSION);
	VALUE("CAP.COALESCED_MMIO", KVM_CAP_COALESCED_MMIO);
	VALUE("CAP.COALESCED_PIO", KVM_CAP_COALESCED_PIO);
	VALUE("CAP.IRQ_ROUTING", KVM_CAP_IRQ_ROUTING);
	VALUE("CAP.MAX_VCPUS", KVM_CAP_MAX_VCPUS);
	VALUE("CAP.READONLY_MEM", KVM_CAP_READONLY_MEM);
	VALUE("CAP.ARM_CACHEABLE_PFNMAP_SUPPORTED", KVM_CAP_ARM_CACHEABLE_PFNMAP_SUPPORTED);
	VALUE("CAP.IRQFD_RESAMPLE", KVM_CAP_IRQFD_RESAMPLE);
	VALUE("CAP.SPLIT_IRQCHIP", KVM_CAP_SPLIT_IRQCHIP);
	VALUE("CAP.X2APIC_API", KVM_CAP_X2APIC_API);
	VALUE("CAP.ARM_VM_IPA_SIZE", KVM_CAP_ARM_VM_IPA_SIZE);
	VALUE("CAP.ARM_NISV_TO_USER", KVM_CAP_ARM_NISV_TO_USER);
	VALUE("CAP.ARM_INJECT_EXT_DABT", KVM_CAP_ARM_INJECT_EXT_DABT);
	VALUE("MEM_READONLY", KVM_MEM_READONLY);
	VALUE("EXIT.UNKNOWN", KVM_EXIT_UNKNOWN);
	VALUE("EXIT.IO", KVM_EXIT_IO);
	VALUE("EXIT.HLT", KVM_EXIT_HLT);
	VALUE("EXIT.MMIO", KVM_EXIT_MMIO);
	VALUE("EXIT.SHUTDOWN", KVM_EXIT_SHUTDOWN);
	VALUE("EXIT.FAIL_ENTRY", KVM_EXIT_FAIL_ENTRY);
	VALUE("EXIT.INTR", KVM_EXIT_INTR);
	VALUE("EXIT.INTERNAL_ERROR", KVM_EXIT_INTERNAL_ERROR);
	VALUE("EXIT.SYSTEM_EVENT", KVM_EXIT_SYSTEM_EVENT);
	VALUE("EXIT.IOAPIC_EOI", KVM_EXIT_IOAPIC_EOI);
	VALUE("EXIT.ARM_NISV", KVM_EXIT_ARM_NISV);
	VALUE("INTERNAL_ERROR.EMULATION", KVM_INTERNAL_ERROR_EMULATION);
	VALUE("INTERNAL_ERROR.SIMUL_EX", KVM_INTERNAL_ERROR_SIMUL_EX);
	VALUE("INTERNAL_ERROR.DELIVERY_EV", KVM_INTERNAL_ERROR_DELIVERY_EV);
	VALUE("INTERNAL_ERROR.UNEXPECTED_EXIT_REASON", KVM_INTERNAL_ERROR_UNEXPECTED_EXIT_REASON);
	VALUE("EXIT_IO_OUT", KVM_EXIT_IO_OUT);
	VALUE("SYSTEM_EVENT.SHUTDOWN", KVM_SYSTEM_EVENT_SHUTDOWN);
	VALUE("SYSTEM_EVENT.RESET", KVM_SYSTEM_EVENT_RESET);
	VALUE("SYSTEM_EVENT.CRASH", KVM_SYSTEM_EVENT_CRASH);
	AT("RUN.IMMEDIATE_EXIT", kvm_run, immediate_exit);
	AT("RUN.EXIT_REASON", kvm_run, exit_reason);
	AT("RUN.IO.DIRECTION", kvm_run, io.direction);
	AT("RUN.IO.SIZE", kvm_run, io.size);
	AT("RUN.IO.PORT", kvm_run, io.port);
	AT("RUN.IO.COUNT", kvm_run, io.count);
	AT("RUN.IO.DATA_OFFSET", kvm_run, io.data_offset);
	AT("RUN.MMIO.ADDRESS", kvm_run, mmio.phys_addr);
	AT("RUN.MMIO.DATA", kvm_run, mmio.data);
	AT("RUN.MMIO.LENGTH", kvm_run, mmio.len);
	AT("RUN.MMIO.IS_WRITE", kvm_run, mmio.is_write);
	AT("RUN.FAIL_ENTRY_REASON", kvm_run, fail_entry.hardware_entry_failure_reason);
	AT("RUN.INTERNAL.SUBERROR", kvm_run, internal.suberror);
	AT("RUN.INTERNAL.NDATA", kvm_run, internal.ndata);
	AT("RUN.INTERNAL.DATA", kvm_run, internal.data);
	AT("RUN.EOI_VECTOR", kvm_run, eoi.vector);
	AT("RUN.SYSTEM_EVENT_TYPE", kvm_run, system_event.type);
	AT("RUN.ARM_NISV.ESR_ISS", kvm_run, arm_nisv.esr_iss);
	AT("RUN.ARM_NISV.FAULT_ADDRESS", kvm_run, arm_nisv.fault_ipa);
	VALUE("MEMORY_REGION.BYTES", sizeof(struct kvm_userspace_memory_region));
	AT("MEMORY_REGION.SLOT", kvm_userspace_memory_region, slot);
	AT("MEMORY_REGION.FLAGS", kvm_userspace_memory_region, flags);
	AT("MEMORY_REGION.GUEST_ADDRESS", kvm_userspace_memory_region, guest_phys_addr);
	AT("MEMORY_REGION.SIZE", kvm_userspace_memory_region, memory_size);
	AT("MEMORY_REGION.USER_ADDRESS", kvm_userspace_memory_region, userspace_addr);
	VALUE("COALESCED_ZONE.BYTES", sizeof(struct kvm_coalesced_mmio_zone));
	AT("COALESCED_ZONE.ADDRESS", kvm_coalesced_mmio_zone, addr);
	AT("COALESCED_ZONE.SIZE", kvm_coalesced_mmio_zone, size);
	AT("COALESCED_ZONE.PIO", kvm_coalesced_mmio_zone, pio);
	AT("COALESCED_RING.FIRST", kvm_coalesced_mmio_ring, first);
	AT("COALESCED_RING.LAST", kvm_coalesced_mmio_ring, last);
	AT("COALESCED_RING.ENTRIES", kvm_coalesced_mmio_ring, coalesced_mmio);
	VALUE("COALESCED_RING.ENTRY.BYTES", sizeof(struct kvm_coalesced_mmio));
	AT("COALESCED_RING.ENTRY.ADDRESS", kvm_coalesced_mmio, phys_addr);
	AT("COALESCED_RING.ENTRY.LENGTH", kvm_coalesced_mmio, len);
	AT("COALESCED_RING.ENTRY.PIO", kvm_coalesced_mmio, pio);
	AT("COALESCED_RING.ENTRY.DATA", kvm_coalesced_mmio, data);
	VALUE("ENABLE_CAP.BYTES", sizeof(struct kvm_enable_cap));
	AT("ENABLE_CAP.CAP", kvm_enable_cap, cap);
	AT("ENABLE_CAP.ARGS", kvm_enable_cap, args);
	VALUE("CREATE_DEVICE.BYTES", sizeof(struct kvm_create_device));
	AT("CREATE_DEVICE.TYPE", kvm_create_device, type);
	AT("CREATE_DEVICE.FD", kvm_create_device, fd);
	VALUE("DEVICE_ATTR.BYTES", sizeof(struct kvm_device_attr));
	AT("DEVICE_ATTR.GROUP", kvm_device_attr, group);
	AT("DEVICE_ATTR.ATTR", kvm_device_attr, attr);
	AT("DEVICE_ATTR.ADDRESS", kvm_device_attr, addr);
	VALUE("DEVICE_TYPE.VFIO", KVM_DEV_TYPE_VFIO);
	/* Since Linux 6.6 KVM_DEV_VFIO_FILE, and so on. */
	VALUE("DEV_VFIO.FILE", KVM_DEV_VFIO_GROUP);
	VALUE("DEV_VFIO.FILE_ADD", KVM_DEV_VFIO_GROUP_ADD);
	VALUE("DEV_VFIO.FILE_DEL", KVM_DEV_VFIO_GROUP_DEL);
	VALUE("MSI.BYTES", sizeof(struct kvm_msi));
	AT("MSI.ADDRESS_LOW", kvm_msi, address_lo);
	AT("MSI.ADDRESS_HIGH", kvm_msi, address_hi);
	AT("MSI.DATA", kvm_msi, data);
	AT("MSI.FLAGS", kvm_msi, flags);
	AT("MSI.DEVID", kvm_msi, devid);
	VALUE("MSI_VALID_DEVID", KVM_MSI_VALID_DEVID);
	VALUE("IRQ_ROUTING.HEADER_BYTES", sizeof(struct kvm_irq_routing));
	AT("IRQ_ROUTING.NR", kvm_irq_routing, nr);
	VALUE("IRQ_ROUTING.ENTRY_BYTES", sizeof(struct kvm_irq_routing_entry));
	AT("IRQ_ROUTING.GSI", kvm_irq_routing_entry, gsi);
	AT("IRQ_ROUTING.TYPE", kvm_irq_routing_entry, type);
	AT("IRQ_ROUTING.FLAGS", kvm_irq_routing_entry, flags);
	AT("IRQ_ROUTING.CHIP", kvm_irq_routing_entry, u.irqchip.irqchip);
	AT("IRQ_ROUTING.PIN", kvm_irq_routing_entry, u.irqchip.pin);
	AT("IRQ_ROUTING.MSI_ADDRESS_LOW", kvm_irq_routing_entry, u.msi.address_lo);
	AT("IRQ_ROUTING.MSI_ADDRESS_HIGH", kvm_irq_routing_entry, u.msi.address_hi);
	AT("IRQ_ROUTING.MSI_DATA", kvm_irq_routing_entry, u.msi.data);
	AT("IRQ_ROUTING.MSI_DEVID", kvm_irq_routing_entry, u.msi.devid);
	VALUE("IRQ_ROUTING_IRQCHIP", KVM_IRQ_ROUTING_IRQCHIP);
	VALUE("IRQ_ROUTING_MSI", KVM_IRQ_ROUTING_MSI);
	VALUE("IRQFD.BYTES", sizeof(struct kvm_irqfd));
	AT("IRQFD.FD", kvm_irqfd, fd);
	AT("IRQFD.GSI", kvm_irqfd, gsi);
	AT("IRQFD.FLAGS", kvm_irqfd, flags);
	AT("IRQFD.RESAMPLE_FD", kvm_irqfd, resamplefd);
	VALUE("IRQFD_FLAG.DEASSIGN", KVM_IRQFD_FLAG_DEASSIGN);
	VALUE("IRQFD_FLAG.RESAMPLE", KVM_IRQFD_FLAG_RESAMPLE);
#ifdef __KVM_HAVE_IOAPIC
	VALUE("KVM_X86.GET_SUPPORTED_CPUID", KVM_GET_SUPPORTED_CPUID);
	VALUE("KVM_X86.SET_TSS_ADDR", KVM_SET_TSS_ADDR);
	VALUE("KVM_X86.SET_IDENTITY_MAP_ADDR", KVM_SET_IDENTITY_MAP_ADDR);
	VALUE("KVM_X86.SET_REGS", KVM_SET_REGS);
	VALUE("KVM_X86.GET_SREGS", KVM_GET_SREGS);
	VALUE("KVM_X86.SET_SREGS", KVM_SET_SREGS);
	VALUE("KVM_X86.SET_CPUID2", KVM_SET_CPUID2);
	VALUE("X2APIC_API.USE_32BIT_IDS", KVM_X2APIC_API_USE_32BIT_IDS);
	VALUE("X2APIC_API.DISABLE_BROADCAST_QUIRK", KVM_X2APIC_API_DISABLE_BROADCAST_QUIRK);
	VALUE("CPUID2.HEADER_BYTES", sizeof(struct kvm_cpuid2));
	AT("CPUID2.NENT", kvm_cpuid2, nent);
	VALUE("CPUID2.ENTRY_BYTES", sizeof(struct kvm_cpuid_entry2));
	AT("CPUID2.FUNCTION", kvm_cpuid_entry2, function);
	AT("CPUID2.INDEX", kvm_cpuid_entry2, index);
	AT("CPUID2.FLAGS", kvm_cpuid_entry2, flags);
	AT("CPUID2.EAX", kvm_cpuid_entry2, eax);
	AT("CPUID2.EBX", kvm_cpuid_entry2, ebx);
	AT("CPUID2.ECX", kvm_cpuid_entry2, ecx);
	AT("CPUID2.EDX", kvm_cpuid_entry2, edx);
	VALUE("REGS.BYTES", sizeof(struct kvm_regs));
	AT("REGS.RSI", kvm_regs, rsi);
	AT("REGS.RSP", kvm_regs, rsp);
	AT("REGS.RIP", kvm_regs, rip);
	AT("REGS.RFLAGS", kvm_regs, rflags);
	VALUE("SREGS.BYTES", sizeof(struct kvm_sregs));
	AT("SREGS.CS", kvm_sregs, cs);
	AT("SREGS.DS", kvm_sregs, ds);
	AT("SREGS.ES", kvm_sregs, es);
	AT("SREGS.FS", kvm_sregs, fs);
	AT("SREGS.GS", kvm_sregs, gs);
	AT("SREGS.SS", kvm_sregs, ss);
	AT("SREGS.TR", kvm_sregs, tr);
	AT("SREGS.LDT", kvm_sregs, ldt);
	AT("SREGS.GDT", kvm_sregs, gdt);
	AT("SREGS.IDT", kvm_sregs, idt);
	AT("SREGS.CR0", kvm_sregs, cr0);
	AT("SREGS.CR3", kvm_sregs, cr3);
	AT("SREGS.CR4", kvm_sregs, cr4);
	AT("SREGS.EFER", kvm_sregs, efer);
	AT("SREGS.APIC_BASE", kvm_sregs, apic_base);
	AT("SEGMENT.BASE", kvm_segment, base);
	AT("SEGMENT.LIMIT", kvm_segment, limit);
	AT("SEGMENT.SELECTOR", kvm_segment, selector);
	AT("SEGMENT.TYPE", kvm_segment, type);
	AT("SEGMENT.PRESENT", kvm_segment, present);
	AT("SEGMENT.DPL", kvm_segment, dpl);
	AT("SEGMENT.DB", kvm_segment, db);
	AT("SEGMENT.S", kvm_segment, s);
	AT("SEGMENT.L", kvm_segment, l);
	AT("SEGMENT.G", kvm_segment, g);
	AT("SEGMENT.UNUSABLE", kvm_segment, unusable);
	AT("DTABLE.BASE", kvm_dtable, base);
	AT("DTABLE.LIMIT", kvm_dtable, limit);
#else
	VALUE("KVM_ARM.IRQ_LINE", KVM_IRQ_LINE);
	VALUE("KVM_ARM.SET_VCPU_EVENTS", KVM_SET_VCPU_EVENTS);
	VALUE("KVM_ARM.SET_ONE_REG", KVM_SET_ONE_REG);
	VALUE("KVM_ARM.VCPU_INIT", KVM_ARM_VCPU_INIT);
	VALUE("KVM_ARM.PREFERRED_TARGET", KVM_ARM_PREFERRED_TARGET);
	VALUE("VCPU_INIT.BYTES", sizeof(struct kvm_vcpu_init));
	AT("VCPU_INIT.TARGET", kvm_vcpu_init, target);
	AT("VCPU_INIT.FEATURES", kvm_vcpu_init, features);
	VALUE("VCPU_FEATURE.POWER_OFF", KVM_ARM_VCPU_POWER_OFF);
	VALUE("VCPU_FEATURE.PSCI_0_2", KVM_ARM_VCPU_PSCI_0_2);
	VALUE("ONE_REG.BYTES", sizeof(struct kvm_one_reg));
	AT("ONE_REG.ID", kvm_one_reg, id);
	AT("ONE_REG.ADDRESS", kvm_one_reg, addr);
	VALUE("IRQ_LEVEL.BYTES", sizeof(struct kvm_irq_level));
	AT("IRQ_LEVEL.IRQ", kvm_irq_level, irq);
	AT("IRQ_LEVEL.LEVEL", kvm_irq_level, level);
	VALUE("ARM_IRQ.TYPE_SHIFT", KVM_ARM_IRQ_TYPE_SHIFT);
	VALUE("ARM_IRQ.TYPE_SPI", KVM_ARM_IRQ_TYPE_SPI);
	VALUE("VCPU_EVENTS.BYTES", sizeof(struct kvm_vcpu_events));
	AT("VCPU_EVENTS.EXT_DABT_PENDING", kvm_vcpu_events, exception.ext_dabt_pending);
	VALUE("DEVICE_TYPE.ARM_VGIC_V3", KVM_DEV_TYPE_ARM_VGIC_V3);
	VALUE("DEVICE_TYPE.ARM_VGIC_ITS", KVM_DEV_TYPE_ARM_VGIC_ITS);
	VALUE("VGIC.GROUP_ADDRESS", KVM_DEV_ARM_VGIC_GRP_ADDR);
	VALUE("VGIC.GROUP_NR_IRQS", KVM_DEV_ARM_VGIC_GRP_NR_IRQS);
	VALUE("VGIC.GROUP_CTRL", KVM_DEV_ARM_VGIC_GRP_CTRL);
	VALUE("VGIC.CTRL_INIT", KVM_DEV_ARM_VGIC_CTRL_INIT);
	VALUE("VGIC.ADDRESS_DIST", KVM_VGIC_V3_ADDR_TYPE_DIST);
	VALUE("VGIC.ADDRESS_REDIST", KVM_VGIC_V3_ADDR_TYPE_REDIST);
	VALUE("VGIC.ADDRESS_ITS", KVM_VGIC_ITS_ADDR_TYPE);
	VALUE("ARM_REGISTER.X0", KVM_REG_ARM64 | KVM_REG_SIZE_U64 | KVM_REG_ARM_CORE | KVM_REG_ARM_CORE_REG(regs.regs[0]));
	VALUE("ARM_REGISTER.PC", KVM_REG_ARM64 | KVM_REG_SIZE_U64 | KVM_REG_ARM_CORE | KVM_REG_ARM_CORE_REG(regs.pc));
#endif
	return 0;
}
