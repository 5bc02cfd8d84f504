# The guest that checks whether KVM runs guests on this host (accel.rs): a boot sector that enters long mode and executes
# the instructions of an early boot, and those that a KVM which emulates instead of executing is known to lack. At the end
# it writes 0x10 to the port of isa-debug-exit; after any error it does not reach this write.
#
#     as -o probe.o probe.s && ld -m elf_x86_64 -Ttext 0x7c00 --oformat binary -o probe.bin probe.o
	.set	TABLES, 0x1000			# PML4, then one table of each further level
	.set	AREA, 0x4000			# for xsave
	.globl	_start
	.code16
_start:	cli
	xorw	%ax, %ax
	movw	%ax, %ds
	movw	%ax, %es
	movw	%ax, %ss
	movw	$0x7c00, %sp
	cld
	# The first 2 MiB, mapped to themselves; the area below is cleared too.
	movl	$TABLES, %edi
	movl	%edi, %cr3
	xorl	%eax, %eax
	movl	$0x1400, %ecx
	rep stosl
	movl	$TABLES + 0x1003, TABLES
	movl	$TABLES + 0x2003, TABLES + 0x1000
	movl	$0x83, TABLES + 0x2000
	# PAE, OSFXSR, OSXMMEXCPT; OSXSAVE where there is XSAVE.
	movl	$1, %eax
	cpuid
	movl	%ecx, %esi
	movl	$0x620, %eax
	btl	$26, %esi
	jnc	1f
	orl	$0x40000, %eax
1:	movl	%eax, %cr4
	movl	$0xc0000080, %ecx
	rdmsr
	orl	$0x100, %eax
	wrmsr
	lgdtl	gdtr
	movl	%cr0, %eax
	andl	$~0xc, %eax			# neither EM nor TS
	orl	$0x80000003, %eax
	movl	%eax, %cr0
	ljmpl	$8, $long

	.code64
long:	movl	$AREA, %edi
	btl	$13, %esi
	jnc	1f
	xorl	%eax, %eax
	xorl	%edx, %edx
	movl	$1, %ebx
	xorl	%ecx, %ecx
	lock cmpxchg16b (%rdi)
	jnz	dead
	cmpq	%rbx, (%rdi)
	jne	dead
1:	fxsave64 (%rdi)
	fxrstor64 (%rdi)
	btl	$26, %esi
	jnc	1f
	addl	$0x400, %edi
	xorl	%ecx, %ecx
	xgetbv
	xsetbv
	xsave64	(%rdi)
	xrstor64 (%rdi)
1:	movw	$0xf4, %dx
	movb	$0x10, %al
	outb	%al, %dx
dead:	hlt
	jmp	dead

	.balign	8
gdt:	.quad	0, 0x00af9b000000ffff
gdtr:	.word	15
	.long	gdt
