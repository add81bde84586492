// Read by MathJax when it starts; it comes from this folder, never from the network.
window.MathJax = {
  tex: { inlineMath: [["$", "$"], ["\\(", "\\)"]], processEscapes: true },
  options: { enableMenu: false },  // its parts would be fetched
};
