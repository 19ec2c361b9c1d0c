package main

import (
	"context"
	"os"
)

// prometheusOperator makes of every Prometheus a StatefulSet with a claim, and
// the Service and Endpoints of the kubelets, which nobody removes. Where the
// cluster has no storage the StatefulSet's pod waits, as the real one would.
func prometheusOperator(ctx context.Context, k *kube, args []string) error {
	const prometheuses = "/apis/monitoring.coreos.com/v1"
	all, err := k.list(ctx, prometheuses+"/prometheuses")
	if err != nil {
		return err
	}
	for _, p := range all {
		labels := map[string]any{"operator.prometheus.io/name": p.name(), "app.kubernetes.io/name": "prometheus"}
		set := object{
			"apiVersion": "apps/v1", "kind": "StatefulSet",
			"metadata": map[string]any{
				"name": "prometheus-" + p.name(), "labels": labels,
				"ownerReferences": []any{map[string]any{
					"apiVersion": "monitoring.coreos.com/v1", "kind": "Prometheus", "name": p.name(), "uid": p.text("metadata", "uid"), "controller": true, "blockOwnerDeletion": true,
				}},
			},
			"spec": map[string]any{
				"serviceName": "prometheus-operated", "replicas": 1,
				"selector": map[string]any{"matchLabels": labels},
				"template": map[string]any{
					"metadata": map[string]any{"labels": labels},
					"spec": map[string]any{
						"terminationGracePeriodSeconds": 1,
						"containers": []any{map[string]any{
							"name": "prometheus", "image": os.Getenv("STANDIN_IMAGE"), "args": []any{"serve"}, "imagePullPolicy": "IfNotPresent",
							"volumeMounts": []any{map[string]any{"name": "data", "mountPath": "/prometheus"}},
						}},
					},
				},
			},
		}
		if claim, ok := p.at("spec", "storage", "volumeClaimTemplate", "spec").(map[string]any); ok {
			set["spec"].(map[string]any)["volumeClaimTemplates"] = []any{ //nolint:forcetypeassert // made above
				map[string]any{"metadata": map[string]any{"name": "data", "labels": labels}, "spec": claim},
			}
		}
		if err := k.apply(ctx, "/apis/apps/v1/namespaces/"+p.text("metadata", "namespace")+"/statefulsets", set); err != nil {
			return err
		}
	}
	if len(args) == 0 {
		return nil
	}
	meta := map[string]any{"name": args[0], "labels": map[string]any{"k8s-app": "kubelet", "app.kubernetes.io/managed-by": "prometheus-operator"}}
	ports := []any{map[string]any{"name": "https-metrics", "port": 10250}}
	err = k.create(ctx, "/api/v1/namespaces/kube-system/services", object{
		"apiVersion": "v1", "kind": "Service", "metadata": meta, "spec": map[string]any{"clusterIP": "None", "ports": ports},
	})
	if err != nil {
		return err
	}
	return k.create(ctx, "/api/v1/namespaces/kube-system/endpoints", object{"apiVersion": "v1", "kind": "Endpoints", "metadata": meta})
}
