package host

// Module is a kernel module that is loaded.
type Module struct {
	Name string `json:"name"`
	// Version is empty for a module that tells none: those that are part of the
	// kernel's own source mostly do not.
	Version string `json:"version,omitempty"`
}

// modules looks for those that accelerators and the way between them need
// (Documentation/ABI/stable/sysfs-module): NVIDIA's driver, its peer memory for
// RDMA and GDRCopy's; AMD's; Gaudi's; and that of Mellanox' cards.
func (r *reader) modules() []Module {
	var loaded []Module
	for _, name := range []string{"amdgpu", "gdrdrv", "habanalabs", "mlx5_core", "nvidia", "nvidia_peermem"} {
		if dir := "sys/module/" + name; r.Exists(dir) {
			loaded = append(loaded, Module{Name: name, Version: r.Text(dir + "/version")})
		}
	}
	return loaded
}
