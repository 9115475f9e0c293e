"""Modules as instances (`instance`): one class for each form of a module and each world, and what they are made of.

| form          | eager world                           | a v1 graph                                     |
|---------------|---------------------------------------|------------------------------------------------|
| TensorFlow 1  | `tf1_eager`, exported by              | `tf1_graph`, exported by                       |
|               | `tf1_eager_export` as a SavedModel    | `tf1_writer` in the same form                  |
| TensorFlow 2  | `reusable`, exported by               | `reusable_graph`, exported by                  |
|               | `hubclient.export` as a SavedModel    | `reusable_writer` in the form of TensorFlow 1  |

The form of TensorFlow 1 is read by `meta_graph`, `tf1_collections` and `tf1_variables`. A graph is added to the
caller's v1 graph part by part (`module_graph`, `tf1_state`, `control_contexts`, `graph_names`), and for the eager world
rewritten once (`prepared_graph`, `ref_variables`, `tf1_resources`) and cut into functions (`tf1_functions`,
`graph_gradients`). Both put the graph's own calls of functions in place first (`inlining`).
"""
