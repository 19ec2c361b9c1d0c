package facts

import (
	"maps"
	"slices"
	"strings"
	"unicode/utf8"
)

// PlatformOf tells OpenShift from plain Kubernetes by its API groups.
func PlatformOf(groups []string) Platform {
	if slices.Contains(groups, "config.openshift.io") {
		return PlatformOpenShift
	}
	return PlatformKubernetes
}

// Distribution names the make of a Kubernetes: by its API groups, its server
// version (v1.33.1+k3s1, v1.33.1-eks-1), or a node's labels; "kubernetes" when
// nothing tells.
func Distribution(version string, labels map[string]string, groups []string) string {
	if PlatformOf(groups) == PlatformOpenShift {
		return "openshift"
	}
	for _, by := range []struct{ mark, name string }{
		{"+k3s", "k3s"}, {"+rke2", "rke2"}, {"+k0s", "k0s"}, {"-eks-", "eks"}, {"-gke.", "gke"}, {"+vmware", "tkg"},
	} {
		if strings.Contains(version, by.mark) {
			return by.name
		}
	}
	for _, by := range []struct{ label, name string }{
		{"kubernetes.azure.com/cluster", "aks"},
		{"kubernetes.azure.com/nodepool-name", "aks"},
		{"eks.amazonaws.com/nodegroup", "eks"},
		{"cloud.google.com/gke-nodepool", "gke"},
		{"microk8s.io/cluster", "microk8s"},
		{"minikube.k8s.io/name", "minikube"},
		{"oke.oraclecloud.com/node.info.private_subnet", "oke"},
		{"doks.digitalocean.com/node-pool", "doks"},
	} {
		if _, ok := labels[by.label]; ok {
			return by.name
		}
	}
	return "kubernetes"
}

// The access modes that AccessMode knows.
const (
	accessMany = "ReadWriteMany"
	accessOnce = "ReadWriteOnce"
)

// AccessMode is the widest mode that a provisioner's volumes are known to
// support, and empty for a provisioner that is not known. Ceph's and Rook's
// provisioners carry the name of their namespace in front.
func AccessMode(provisioner string) string {
	for _, suffix := range []string{
		"efs.csi.aws.com", "file.csi.azure.com", "filestore.csi.storage.gke.io", "cephfs.csi.ceph.com", "nfs.csi.k8s.io",
		"smb.csi.k8s.io", "csi.juicefs.com", "driver.longhorn.io", "kubernetes.io/azure-file", "kubernetes.io/glusterfs",
		"nfs-subdir-external-provisioner", "fsx.csi.aws.com", "beegfs.csi.netapp.com", "weka.io", "spectrumscale.csi.ibm.com",
	} {
		if strings.HasSuffix(provisioner, suffix) {
			return accessMany
		}
	}
	for _, suffix := range []string{
		"ebs.csi.aws.com", "disk.csi.azure.com", "pd.csi.storage.gke.io", "rbd.csi.ceph.com", "rancher.io/local-path",
		"kubernetes.io/aws-ebs", "kubernetes.io/azure-disk", "kubernetes.io/gce-pd", "kubernetes.io/cinder", "cinder.csi.openstack.org",
		"topolvm.io", "topolvm.cybozu.com", "local.csi.openebs.io", "openebs.io/local", "kubernetes.io/no-provisioner",
		"csi.vsphere.vmware.com", "k8s.io/minikube-hostpath", "microk8s.io/hostpath", "linstor.csi.linbit.com",
	} {
		if strings.HasSuffix(provisioner, suffix) {
			return accessOnce
		}
	}
	return ""
}

// The bounds of what StorageParameters keeps.
const (
	maxParameters     = 32
	maxParameterName  = 253
	maxParameterValue = 512
)

// StorageParameters are the parameters of a storage class that are kept as
// facts: not those whose names look as if they held or named a secret, 32 of
// the others in order of their names, and of each value 512 bytes.
func StorageParameters(in map[string]string) map[string]string {
	out := make(map[string]string, min(len(in), maxParameters))
	for _, key := range slices.Sorted(maps.Keys(in)) {
		if len(out) == maxParameters {
			break
		}
		value := clipTo(clean(in[key]), maxParameterValue)
		if key = clean(key); len(key) <= maxParameterName && !looksSecret(key) {
			out[key] = value
		}
	}
	if len(out) == 0 {
		return nil
	}
	return out
}

func looksSecret(key string) bool {
	key = strings.ToLower(key)
	return slices.ContainsFunc([]string{"secret", "passw", "passphrase", "token", "key", "credential"}, func(mark string) bool {
		return strings.Contains(key, mark)
	})
}

// clipTo cuts a text at a rune's border so that it has at most that many bytes.
func clipTo(s string, most int) string {
	if len(s) <= most {
		return s
	}
	const mark = "…"
	cut := most - len(mark)
	for cut > 0 && !utf8.RuneStart(s[cut]) {
		cut--
	}
	return s[:cut] + mark
}

// NodeLabels are the labels of a node that are kept as facts: all but those
// that feature discovery sets by the hundred and are read into devices, and
// those that change without anything having changed. Of feature discovery's
// those stay by which components are chosen.
func NodeLabels(labels map[string]string) map[string]string {
	out := make(map[string]string, len(labels))
	for key, value := range labels {
		if strings.HasPrefix(key, nfdPrefix) && !keptFeature(key) || strings.HasPrefix(key, "nfd.node.kubernetes.io/") || key == "nvidia.com/gfd.timestamp" {
			continue
		}
		out[key] = value
	}
	if len(out) == 0 {
		return nil
	}
	return out
}

// NodeRoles are the roles that a node's labels name.
func NodeRoles(labels map[string]string) []string {
	var roles []string
	for key, value := range labels {
		if role, ok := strings.CutPrefix(key, "node-role.kubernetes.io/"); ok && role != "" {
			roles = append(roles, role)
		} else if key == "kubernetes.io/role" && value != "" {
			roles = append(roles, value)
		}
	}
	slices.Sort(roles)
	return slices.Compact(roles)
}
